"""The life of an utterance and of the inference worker, on asyncio."""
