"""The released way beside ours: `compare` measures, on `machine`, and `report` writes it down."""
