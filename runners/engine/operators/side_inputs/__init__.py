"""Side inputs: their views, and the gate that holds elements back until a view is ready."""
