-- Only in the container of compose.yaml: without a password, the superuser cannot log in over the network.
ALTER ROLE postgres PASSWORD NULL;
