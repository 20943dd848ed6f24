"""The work behind the routes: the studio, submissions, slots, caches."""
