"""What the pages share: the frame, colours and words, charts, and cached looks at the core."""
