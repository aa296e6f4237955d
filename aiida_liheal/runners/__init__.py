"""Scripts that a job carries along to where it runs; at most they import what the job carries along with them."""
