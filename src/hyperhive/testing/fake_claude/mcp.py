"""The in-process MCP servers of the caller: JSON-RPC inside control requests."""

from typing import Any

from hyperhive.testing.fake_claude.channel import Channel, RefusedError

Json = dict[str, Any]


class McpServers:
    """Knows the caller's servers after `connect`. A server that is not in-process fails, as one that is down would."""

    def __init__(self, channel: Channel, configs: dict[str, dict[str, Any]]) -> None:
        self._channel = channel
        self._configs = configs
        self._ids = 0
        self.status = dict.fromkeys(configs, "pending")
        self.tools: list[str] = []

    def connect(self) -> None:
        for name, config in self._configs.items():
            try:
                self.status[name] = self._connect_one(name) if config.get("type") == "sdk" else "failed"
            except RefusedError:
                self.status[name] = "failed"

    def _connect_one(self, server: str) -> str:
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "claude-code", "version": "0"},
        }
        self._call(server, "initialize", hello)
        self._send(server, {"jsonrpc": "2.0", "method": "notifications/initialized", "params": {}})
        listed = self._call(server, "tools/list", {})
        self.tools += [f"mcp__{server}__{tool['name']}" for tool in listed.get("tools", [])]
        return "connected"

    def call_tool(self, tool: str, arguments: Json) -> Json:
        """The `tools/call` result. Raises RefusedError when the server does not answer with one."""
        _, server, name = tool.split("__", 2)
        if self.status.get(server) != "connected":
            raise RefusedError(f"no server is called {server}")
        return self._call(server, "tools/call", {"name": name, "arguments": arguments})

    def _call(self, server: str, method: str, params: Json) -> Json:
        self._ids += 1
        response = self._send(server, {"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params})
        if "error" in response:
            raise RefusedError(str(response["error"].get("message")))
        result: Json = response.get("result", {})
        return result

    def _send(self, server: str, message: Json) -> Json:
        answer = self._channel.request({"subtype": "mcp_message", "server_name": server, "message": message})
        response: Json = answer.get("mcp_response", {})
        return response
