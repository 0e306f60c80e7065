"""What the learning judge is trained on, and the code that reads it."""
