"""Desktop clients: host.sock, a wire of JSON lines that those of the first hyperhive already speak."""
