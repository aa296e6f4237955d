"""Stand-alone scripts that a job carries along to the computer it runs on; at most they import what the job carries along with them."""
