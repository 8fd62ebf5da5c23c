"""Knowledge bases: passages of documents and questions with answers, found by words and by meaning."""
