"""The operator's HTTP API: what requests and answers hold. The routes are in `host/api`, the document in OpenAPI.

Instants are aware and in UTC. Every refusal is an `ErrorBody`.
"""
