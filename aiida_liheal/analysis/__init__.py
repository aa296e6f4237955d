"""What a trajectory shows, without AiiDA: phases, voids, profiles along the height, and their time series."""
