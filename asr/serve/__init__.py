"""A recogniser as a web service: OpenAI's transcription API, live audio over a WebSocket, and a page."""
