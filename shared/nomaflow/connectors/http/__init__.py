"""HTTP requests: who sends them, where they may go, their bodies, their tries."""
