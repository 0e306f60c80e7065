"""Local embedding models, batching, and where their weights come from."""

import os

# ONNX Runtime (1.32) has telemetry of its maker built in: importing it leaves a device id and a queue of events
# to be uploaded in the user's cache. It reads this variable when it is loaded, and nothing of ours is sent anywhere.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
