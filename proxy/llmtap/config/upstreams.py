"""Built-in upstreams: name → (base URL, provider). An empty URL must be configured before use.

Base URLs are those of the providers' own API references, less the version path that their SDKs
append themselves.
"""

BUILT_IN: dict[str, tuple[str, str]] = {
    "openai": ("https://api.openai.com", "openai"),
    "anthropic": ("https://api.anthropic.com", "anthropic"),
    "gemini": ("https://generativelanguage.googleapis.com", "google"),
    "mistral": ("https://api.mistral.ai", "mistral"),
    "cohere": ("https://api.cohere.com", "cohere"),
    "groq": ("https://api.groq.com/openai", "groq"),
    "deepseek": ("https://api.deepseek.com", "deepseek"),
    "openrouter": ("https://openrouter.ai/api", "openrouter"),
    "together": ("https://api.together.xyz", "together"),
    "fireworks": ("https://api.fireworks.ai/inference", "fireworks"),
    "xai": ("https://api.x.ai", "x-ai"),
    "azure": ("", "azure"),
    "bedrock": ("https://bedrock-runtime.us-east-1.amazonaws.com", "aws"),
    "ollama": ("http://127.0.0.1:11434", "ollama"),
    "vllm": ("http://127.0.0.1:8000", "vllm"),
    "sglang": ("http://127.0.0.1:30000", "sglang"),
    "tgi": ("http://127.0.0.1:8080", "tgi"),
    "llamacpp": ("http://127.0.0.1:8080", "llama.cpp"),
    "demo": ("http://127.0.0.1:8790", "auto"),
}
