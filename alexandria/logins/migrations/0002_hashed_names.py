from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("logins", "0001_initial"),
    ]

    operations = [
        migrations.AlterField(
            model_name="login",
            name="username",
            field=models.CharField(
                help_text="The user. Of a name that no user has: a hash, as it may be a password.", max_length=150
            ),
        ),
    ]
