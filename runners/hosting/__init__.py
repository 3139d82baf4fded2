"""What the hosts share: how a job travels to a worker, how its parts are reported, and what a user gets back."""
