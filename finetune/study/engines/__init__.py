"""Where the runs of a study are made: on this machine, or on a cluster."""
