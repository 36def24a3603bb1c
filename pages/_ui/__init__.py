"""Code that the pages share: the frame, parts, charts, and cached reads of the core."""
