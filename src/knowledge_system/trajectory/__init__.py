"""Where a session stands: intent, goal, state and active concepts after each exchange, without a model."""
