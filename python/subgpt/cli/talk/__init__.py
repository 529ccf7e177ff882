"""Talking with a model: `lines` (what is typed), `talk` (what was said, the answers), `commands` (lines with `/`)."""
