"""Who gets in where: real processes, and whoever should not."""
