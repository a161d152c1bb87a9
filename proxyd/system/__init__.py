"""What a service manager and an operator ask of a process: sockets, notifications, limits, and its last words."""
