"""Text out of a model, or what is known of it.

`config` has the options; `generate` gives a whole text, `stream` its pieces, `complete` several with their log
probabilities. `beginning` reads the prompt, whose end `healing` mends; `writing` draws a text token by token, `reading`
makes text of ids up to the first of its `stops`, `beams` searches, `structured` keeps to a grammar, `speculation`
guesses ahead. `conversation` answers messages turn after turn, `chat` once. `engine` writes many texts at once, a `job`
each, and `prefix_cache` keeps what they begin with.
"""
