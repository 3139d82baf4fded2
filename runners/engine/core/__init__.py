"""What everything else of the engine speaks of: steps, blocks, windows, keys, key groups, sizes."""
