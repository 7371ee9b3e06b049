"""For the tests of programs that use xearth: strategies of labeled fields, and assertions."""
