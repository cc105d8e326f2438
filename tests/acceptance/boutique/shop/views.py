from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.generics import CreateAPIView

from shop.models import Order
from shop.tasks import send_receipt


class OrderSerializer(serializers.ModelSerializer):
    class Meta:
        model = Order
        fields = ["id", "customer", "total", "status"]
        read_only_fields = ["status"]


class SoldOut(APIException):
    status_code = 409


class OrderList(CreateAPIView):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer

    def perform_create(self, serializer):
        order = serializer.save()
        order.place()
        order.save()
        send_receipt.delay(order.pk)
        if order.total > 1000:
            raise SoldOut
