"""What concerns the daemon itself: its service manager, its metrics, its demo, its health."""
