"""How requests come in and answers go out: GraphQL over HTTP and WebSocket, REST, pages, health."""
