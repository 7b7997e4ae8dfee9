"""IKEv1 as states: phase 1 in main and aggressive mode, and the exchanges under its protection."""
