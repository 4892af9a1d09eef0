"""What every room may use: device, process group, provenance, paths and errors."""
