"""Where elements come from: bounded sources, splittable DoFns, test streams."""
