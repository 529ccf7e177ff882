"""Models behind HTTP, in the shape of OpenAI's API, for whatever speaks it.

`models` has what is served. Nothing here is imported by the rest of the package: it needs the extra `serve`.
"""
