"""What travels from the driver to a worker."""
