"""What a stage is made of: the steps at its head, the steps fused behind them, its output."""
