"""The submitting process: supervises a job, drives its checkpoints, gathers its reports."""
