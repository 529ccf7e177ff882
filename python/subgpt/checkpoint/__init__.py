"""What lies on disk.

A run directory (`run_directory`, `lock`), checkpoints to go on from (`checkpoints`), how they come there (`draft`,
copied as `staging` says, `checksums`, `writer`), and opening a model again (`load`).
"""
