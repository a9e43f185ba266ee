"""The API: GraphQL over HTTP and WebSocket, a REST door, GraphiQL."""
