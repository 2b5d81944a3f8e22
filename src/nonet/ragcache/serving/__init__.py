"""The HTTP server: OpenAI's routes with chunks beside them, explanations, metrics, and a chat page.

Files: `openai_types` (bodies of requests), `answers` (bodies of answers), `app` (routes), `metrics` (Prometheus, vLLM's
names on request), `shadow` (sampled comparison with full recomputation), `page` (the chat page).
"""
