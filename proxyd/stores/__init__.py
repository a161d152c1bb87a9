"""Where the truth about the routes of the API is kept, by kind."""
