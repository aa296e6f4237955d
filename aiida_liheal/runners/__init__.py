"""Stand-alone scripts that a job carries along to the computer it runs on; they import nothing of this package."""
