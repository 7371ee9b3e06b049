"""For the tests of programs that use xearth: strategies of labelled fields, and assertions."""
