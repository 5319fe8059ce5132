"""What lessons share: device choice, figures, widgets, probes and materials."""
