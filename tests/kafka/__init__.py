"""A real Kafka broker for the tests: got with Maven, run with Java, gone when nobody holds it any more."""
