"""Units of sizes."""

BYTES_PER_MB = 1024**2
