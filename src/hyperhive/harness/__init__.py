"""The program inside an agent's container. Small by itself: the heavy parts live in its engine process."""
