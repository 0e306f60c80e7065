"""Public fakes for the ports. Each passes the same contract suite as the real thing, so nobody needs to patch."""
