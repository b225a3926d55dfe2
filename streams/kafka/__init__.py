"""Everything that talks to Kafka or to a schema registry: clients, a producer, offsets."""
