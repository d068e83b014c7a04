"""Filters of templates: how numbers and lengths of time look."""

from django import template

from alexandria.common.text import counted, length_of_time, number

register = template.Library()
register.filter("number", number)
register.filter("counted", counted)
register.filter("length_of_time", length_of_time)
