"""Which paths are the API's, and which are open to those without a key. All others are pages."""

LOGIN = "/login"
HEALTH = "/health"
METRICS = "/metrics"
OPEN = (LOGIN, HEALTH)
_API = ("/tokenize", "/detokenize", "/tokenizer_info", HEALTH, METRICS)
_V1 = ("/v1/models", "/v1/completions", "/v1/chat/completions", "/v1/embeddings")


def is_api(path: str) -> bool:
    """Whether programs ask here; pages are for people."""
    return path in _API or path == "/v1" or path.startswith("/v1/")


def label(path: str) -> str:
    """Name the route of a path, for counting: there are few, whatever is asked for."""
    if path in (*_API, *_V1, LOGIN):
        return path
    if path.startswith("/v1/models/"):
        return "/v1/models/{model}"
    return "other" if is_api(path) else "page"
