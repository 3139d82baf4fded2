"""The stages of one worker at run time: tasks, inboxes, routing, and the order in which they run."""
