"""Whether a packet that is sent also arrives: one kind of loss per file."""
