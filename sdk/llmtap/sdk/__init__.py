"""What an application may import from llmtap: light, never throws into the app.

Today this room holds only the names that apps, proxy and collector agree on (`names`).
"""
