"""The HTTP server: OpenAI's routes with chunks beside them, explanations, metrics, and a chat page.

Files: `openai_types` (bodies of requests), `fields` (what of them is refused), `answers` (bodies of answers), `tenants`
(keys, and whose chunks are whose), `app` (routes), `asking` (prompts through the engine), `metrics` (Prometheus, vLLM's
and LMCache's names on request), `settings` and `server` (from settings to a server that listens), `lmcache_settings`
(those that LMCache's users bring), `page` (the chat page).
Several engines: `routing` (which replica), `hints` (what a router is told of a request), `calls` (a request between two
processes), `front_app` (the routes before the replicas), `merging` (their metrics), `replicas` and `ray_router` (Ray
Serve).
"""
